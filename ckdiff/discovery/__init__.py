"""What was unlearned, when nobody says: texts, what is lost on them, a null, candidates, and the section they make."""
