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
        <h1 className="strong">You are not signed in, or your session has ended.</h1>
        <p className="dim">
          Run this on the machine where the dashboard runs. It prints a link that works once; open it in this
          browser.
        </p>
        <Command text="sonde login" />
        <p className="faint">
          When Sonde started with its own data directory, add it: sonde login --data-dir DIR. `sonde up`
          prints a link when it starts, too.
        </p>
      </div>
    </main>
  );
}
