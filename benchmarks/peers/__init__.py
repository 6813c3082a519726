"""clipworks beside what a user would pick instead: same machine, weights, images and prompts; see ``__main__``."""
