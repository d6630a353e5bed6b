"""What a small model is: held-out loss beside n-grams, routing, and the card that says so."""
