// Bases, on this machine: there are none, since code runs in a virtual environment.
import type { Bases } from '../bases.ts'

export const localBases: Bases = { resolve: async () => ({ base: null }) }
