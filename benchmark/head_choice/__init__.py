"""Does it matter which heads LoRSU selects? Asked on a tower with eight heads a block.

The lab's tower has three, of which two are selected: too few to tell. The bundled encoder has eight
and has never been shown what is taught here.
"""
