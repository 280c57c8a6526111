"""Many pairs by one plan: `plan` → `tasks` → an engine → one report a job → `gathering`."""
