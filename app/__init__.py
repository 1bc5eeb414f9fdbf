"""The door: the HTTP service. Answers requests; decides nothing about learning."""
