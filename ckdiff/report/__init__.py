"""Reports: one frozen report, its codecs and its presenters."""
