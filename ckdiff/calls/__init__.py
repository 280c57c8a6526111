"""ckdiff as functions: a frozen spec in, a report out. Each command is one of these plus presentation."""
