"""What scenarios of the end-to-end tests are written with: `Scenario` (scenario.py) is what each of them gets."""
