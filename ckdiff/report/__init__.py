"""What is said: one frozen report, its codecs and its presenters."""
