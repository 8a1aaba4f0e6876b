// Asks once, when told to, and says what came.
const https = require("https");
const [port, ca] = process.argv.slice(1);
console.log("ready");
process.stdin.once("data", () => {
  const options = { host: "127.0.0.1", port, servername: "sonde.test", path: "/from-node", ca: require("fs").readFileSync(ca) };
  https.get(options, (answer) => {
    let text = "";
    answer.on("data", (data) => (text += data));
    answer.on("end", () => console.log(answer.statusCode, text));
  });
});
