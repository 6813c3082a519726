"""clipworks beside what a user would pick instead: same machine, weights, pictures and prompts; see ``__main__``."""
