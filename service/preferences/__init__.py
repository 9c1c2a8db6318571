"""What people prefer: tasks, their answers, statistics over them, and their export for training."""
