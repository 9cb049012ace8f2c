"""Networks of any torch modules, trained by the same equations."""
