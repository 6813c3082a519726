"""The commands of the accelerator vendor's CLIP sample, thin: its options in, its forms out."""
