"""The scores themselves, each a number from confidences and outcomes."""
