"""How the models that come with Emend were made."""
