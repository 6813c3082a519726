"""clipworks: match, classify, check and measure CLIP on the hardware you have."""

__version__ = "0.1.0"
