"""Live models: restoration probes on the activations of two live models."""
