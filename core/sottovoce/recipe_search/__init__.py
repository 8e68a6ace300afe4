"""Search for the recipe that loses least within a budget: what every layer loses by every choice, and the best mix."""
