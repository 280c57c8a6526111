"""Rules, a verdict, policies and gates over a finished report. Nothing here needs torch or a model."""
