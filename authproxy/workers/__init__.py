"""Several processes: who starts them, what they are told, what they tell."""
