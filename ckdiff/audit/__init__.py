"""What a report means: rules, a verdict, policies and gates. Nothing here needs torch or a model."""
