"""THE STORY: a service is told of its mistakes, measured before and after, and rolled back."""
