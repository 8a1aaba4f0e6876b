// Nobody is signed in: how to come by a login link.
import { Mark } from "../frame/icons";
import { Command } from "./Command";

export function Login() {
  return (
    <main className="alone" data-testid="login">
      <div>
        <div className="mark">
          <Mark /> Sonde
        </div>
        <h1>You are not signed in.</h1>
        <p className="dim">
          Run this on the machine where the dashboard runs. It prints a link that works once; open it in this
          browser.
        </p>
        <Command text="sonde login" />
        <p className="faint">
          Where Sonde was started with <span className="mono">--data-dir DIR</span>, add the same here.{" "}
          <span className="mono">sonde up</span> prints a link when it starts, too.
        </p>
      </div>
    </main>
  );
}
