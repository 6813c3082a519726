"""Images: files, bytes, Pillow images and arrays enter; uint8 RGB squares of the size that a model takes leave."""
