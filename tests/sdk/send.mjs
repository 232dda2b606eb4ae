// A shopper's day, sent with the JavaScript clients of Segment, RudderStack and Jitsu.
import { createRequire } from "node:module";

const [url, modules] = process.argv.slice(2);
const load = createRequire(`${modules}/`);
const { Analytics: Segment } = load("@segment/analytics-node");
const Rudder = load("@rudderstack/rudder-sdk-node");
const { jitsuAnalytics } = load("@jitsu/js");

const context = { campaign: { name: "spring", source: "google", medium: "cpc" } };
const timestamp = new Date("2026-06-10T08:00:00Z");
const day = (name) => ({
  who: { userId: name, anonymousId: `${name}-browser`, timestamp },
  traits: {
    email: `${name}@example.com`,
    phone: "+4790000001",
    firstName: "Ada",
    address: { city: "Oslo" },
  },
  order: {
    order_id: `${name}-order`,
    revenue: 39.98,
    currency: "EUR",
    products: [{ product_id: "p1", price: 19.99, quantity: 2 }],
  },
});

const live = (client, name) => {
  const { who, traits, order } = day(name);
  client.page({ ...who, name: "Home", context });
  client.identify({ ...who, traits });
  client.track({ ...who, event: "Order Completed", properties: order });
};

const segment = new Segment({ writeKey: "key", host: url });
live(segment, "segment-node");
await segment.closeAndFlush();

const rudder = new (Rudder.default ?? Rudder)("key", { dataPlaneUrl: url });
live(rudder, "rudder-node");
await new Promise((done) => rudder.flush(done));

const { who, traits, order } = day("jitsu");
const jitsu = jitsuAnalytics({ host: url, writeKey: "key:secret" });
await jitsu.setAnonymousId(who.anonymousId);
await jitsu.page({ name: "Home", path: "/" }, { context });
await jitsu.identify(who.userId, traits);
await jitsu.track("Order Completed", order);
process.exit(0);
