"""`touchstream demo`: real purchases and seeded journeys through everything, with known totals."""
