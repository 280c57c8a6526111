"""Questions: files in, frozen sets out, without torch."""
