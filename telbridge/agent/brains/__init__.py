"""What can be behind the facade: each module is one mind."""
