"""Commands that ask and change nothing: what is there, what it would cost, what can be done here."""
