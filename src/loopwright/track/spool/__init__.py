"""The spool: what a process logs, kept on its own disk until the workspace has it."""
