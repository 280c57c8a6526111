"""The records that a report is made of: one module a section."""
