// Resolves chosen host names to a stand-in, inside this Node process alone (node --require).
// `STAND_IN_HOSTS` reads `name=address:port,…`; the port is left to the program.
"use strict";

const dns = require("node:dns");

const hosts = new Map(
  (process.env.STAND_IN_HOSTS ?? "").split(",").filter(Boolean).map((entry) => {
    const [name, place] = entry.split("=");
    return [name, place.split(":")[0]];
  }),
);
const lookup = dns.lookup;

dns.lookup = (name, options, callback) => {
  const address = hosts.get(name);
  if (!address) return lookup(name, options, callback);
  const done = callback ?? options;
  const all = typeof options === "object" && options?.all;
  process.nextTick(() => (all ? done(null, [{ address, family: 4 }]) : done(null, address, 4)));
};
