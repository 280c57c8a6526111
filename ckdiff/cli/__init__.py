"""The door: one file a command, of the command's name; nothing else prints."""
