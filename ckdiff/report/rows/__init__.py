"""A section of a report, or a campaign, as rows of values under the names of its records: CSV, TSV and JSON lines."""
