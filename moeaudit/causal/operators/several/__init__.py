"""Operators about several experts of a layer together, or one expert in several layers."""
