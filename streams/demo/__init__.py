"""`touchstream demo`: real purchases and seeded journeys through the whole pipeline, with known totals."""
