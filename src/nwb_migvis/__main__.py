"""`python -m nwb_migvis`: the command line, as `accelerate launch -m nwb_migvis` starts it."""

from nwb_migvis.cli import main

if __name__ == "__main__":
    main()
