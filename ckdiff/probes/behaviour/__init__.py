"""What both models say: answers, choices and neutral texts, scored."""
