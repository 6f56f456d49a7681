"""The tests: folders by what they need. unit nothing, store a file, api a Flask client, system processes."""
