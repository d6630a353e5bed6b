"""What the bundled models were made with: their architectures, their training, their cards."""
