"""Commands that read what others wrote: its page, its soundness, its plan. No model is needed."""
