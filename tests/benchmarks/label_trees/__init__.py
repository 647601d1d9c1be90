"""Label trees beside their peers: tasks, contestants, the race, the page."""
