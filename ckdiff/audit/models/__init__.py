"""Signatures of models, as OpenSSF Model Signing v1.0 makes them: `model.sig` in a checkpoint's directory."""
