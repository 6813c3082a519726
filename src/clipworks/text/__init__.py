"""Text: texts, labels and templates enter; prompts and token ids leave."""
