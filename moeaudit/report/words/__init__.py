"""What the page says: the answer, verdicts, evidence and numbers in words."""
