"""What is decided: pure functions first, one thin agent at the end of each file."""
