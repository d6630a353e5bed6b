"""What was declared, how a table was made, and whether the two agree."""
