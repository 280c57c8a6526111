"""The behaviour of both models: answers, choices and neutral texts, scored."""
