"""Run the command line as `python -m genrail`, where no script is on the path."""

from genrail.cli.main import run

if __name__ == "__main__":
    run()
