"""A report as a CycloneDX 1.6 bill of materials of the unlearned model."""
