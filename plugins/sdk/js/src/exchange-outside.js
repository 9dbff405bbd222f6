// Unit tests in Node.js have no network.

import { stop } from "./error.js";

export function exchange() {
  stop("there is no network outside of a component");
}
