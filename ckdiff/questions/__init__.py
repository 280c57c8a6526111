"""What is asked: files in, frozen sets out, without torch."""
